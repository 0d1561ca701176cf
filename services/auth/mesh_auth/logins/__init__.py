"""Whose login is it, and may it be tried now? Spellings of e-mail addresses, and limits on failed logins."""
