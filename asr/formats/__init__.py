"""What recognition results look like outside: functions from hypotheses to text, and back. No torch in here."""
