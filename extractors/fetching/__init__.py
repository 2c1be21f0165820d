"""Downloads: HTTP, continued where they were cut off, room on the disk, working offline."""
