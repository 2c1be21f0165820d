"""Official metrics, submission files and reports."""
