"""What speech corpora consist of: utterances, phones, hypotheses. No torch in here."""
