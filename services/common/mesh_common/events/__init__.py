"""What happens in a run: the one model of it, and its one conversion to and from protobuf."""
