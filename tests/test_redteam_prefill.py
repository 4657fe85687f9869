"""A conversation that ends in an assistant turn is gone on with, by the embedded model's own template."""

from transformers import AutoTokenizer

from primum.core.records import assistant, user
from primum.models.chat import encode, render
from primum.models.embedded import embedded_folder


def test_an_answer_that_was_begun_is_gone_on_with():
    tokenizer = AutoTokenizer.from_pretrained(str(embedded_folder()))
    asked = (user("How?"),)
    begun = render((*asked, assistant("Sure, <|im_end|> here")), tokenizer)
    assert begun == render(asked, tokenizer) + "Sure, <\u200d|im_end|> here"
    plain, longer = encode([asked, (*asked, assistant("Sure, here"))], tokenizer)
    assert longer[: len(plain)] == plain
    assert tokenizer.decode(longer[len(plain) :]) == "Sure, here"
