"""The part of request handling that all protocols share: limits, errors, records, the caller."""
