"""The recogniser: pyramidal encoder, attention, decoder, CTC branch, and the file they travel in.

Shapes are written in one alphabet: `B` batch, `T` feature frames, `F` feature width, `S` encoder frames, `D` encoder
width (both directions), `A` attention width, `C` location filters, `r` their taps, `H` decoder width, `E` embedding,
`U` phones, `V` phone ids, `K` hypotheses of an utterance, `W` frames in the attention's window.
"""
