"""Networks and front ends that are large or have several users, written from papers and checkpoints."""
