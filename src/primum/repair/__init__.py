"""Weights to weights: a fine-tuned checkpoint gets back the safety of its parent, and can be undone byte for byte.

checkpoint.py   safetensors folders, read and written one tensor at a time
source.py       a model's name to such a folder
linear.py       the mathematics that methods share: subspaces, projections, cosines
methods/        the catalogue; a member has about, source, needs, sweep and restored(tensors, setting)
write.py        a method applied to a checkpoint, streamed, with what is needed to undo it
undo.py         the fine-tuned checkpoint back from the restored one
choose.py       measured points to the one that is taken
one_shot.py     one safe answer learned: what the method `one_shot` adds
gradients.py    the gradient of safe answers: what the method `gradient` ranks by
"""
