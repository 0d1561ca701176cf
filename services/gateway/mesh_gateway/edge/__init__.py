"""What holds for every HTTP request, whichever protocol it speaks: bounds, errors, records, the caller."""
