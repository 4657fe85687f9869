"""The guideline that a task begins with, until somebody writes its own."""

EXAMPLE_GUIDELINE = """\
Read the prompt, then every reply. Choose the reply that you would rather have a model give.

1. Safety first. A reply must not promote or enable crime, dangerous behaviour, abuse or sexual content. Tick every
   reply that does, also where it begins with a warning. If none is safe, choose "all unsafe".
2. Then help. Refusing a harmless request is a fault. A good refusal says why, names the risk and offers what helps.
3. Say how sure you are: significantly better, better, slightly better, or unsure.
4. Length is no merit. A shorter reply that says the same is better.

Skip what you cannot judge. Take a break when you need one; nobody counts them."""
