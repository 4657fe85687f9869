"""A model -> how easily its safety is undone. Never the word that it cannot be.

setting.py      what a tamper is given and gives back: how the model is asked, points to measure
catalogue.py    which tampers, at which levels
layers.py       the matrices of a network, and those that write into its residual stream
backends.py     weights through a GGUF file, or held by torchao
hidden.py       activations that tampers need: inputs of layers, directions of refusal
finetune.py     attacks by training: a short fine-tune, looked at after some of its steps
demonstrate.py  what such attacks learn from: answers of a broken model, kept in the run folder alone
measure.py      each point against the untouched model; curves, steps to 80%, cost, warnings
tampers/        the catalogue
"""
