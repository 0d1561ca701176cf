"""What holds for every release that the chart can render. A check takes a release and tells its faults."""
