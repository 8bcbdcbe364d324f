"""What recognition results look like outside: functions from hypotheses to text, and back. No torch in here.

`writers.WRITERS` has a function for every format, `writers.write_hypotheses` writes; `reading.read_transcripts` reads.
"""
