"""Machines that we synthesise, written as a data set of the challenge."""
