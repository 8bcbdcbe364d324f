"""How well it went: alignment, protocols, error rates and how far to trust them. No torch in here."""
