"""Embedding tables on disk: recipe, Parquet files, one store."""
