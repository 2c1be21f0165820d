"""What comes over the network: HTTP, downloads that go on, room on the disk, working offline."""
