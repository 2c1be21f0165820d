"""After the first score: evidence over many clips, alarms, their history and where they are sent."""
