"""Finding the best phone sequence. Beam search here knows neither network nor text: it drives a stepper."""
