"""What holds for every request, whichever protocol it speaks: bounds, errors, records, the caller."""
