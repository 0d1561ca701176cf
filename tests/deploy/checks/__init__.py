"""The checks that every release rendered by the chart must pass. A check takes a release and yields its faults."""
