"""The events of a run: the only model of them, and the only conversion to and from protobuf."""
