"""What people look at: pictures of one utterance, charts of many, and the page that holds them."""
