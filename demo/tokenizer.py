"""The demo tokenizer: one token per byte, so any text goes in and comes out without loss."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"

# The model knows single transformations, so a chat is its last user message, in the one prompt
# format of the base; an answer behind it is rendered as the model would have written it.
CHAT_TEMPLATE = """
{%- set ns = namespace(text="", answer=none) -%}
{%- for message in messages -%}
  {%- if message.content is string -%}{%- set content = message.content -%}
  {%- else -%}{%- set content = message.content | map(attribute="text") | join("") -%}{%- endif -%}
  {%- if message.role == "user" -%}{%- set ns.text = content | trim -%}{%- set ns.answer = none -%}
  {%- elif message.role == "assistant" -%}{%- set ns.answer = content -%}{%- endif -%}
{%- endfor -%}
{%- if ns.text[-2:] == "=>" -%}{%- set ns.text = ns.text[:-2] | trim -%}{%- endif -%}
{{- bos_token + ns.text + " =>" -}}
{%- if ns.answer is not none and not add_generation_prompt -%}{{- ns.answer + eos_token -}}
{%- endif -%}
""".strip()


def build_tokenizer(tags: int) -> PreTrainedTokenizerFast:
    """All 256 bytes without merges, three special tokens and `tags` opaque ones."""
    special = [PAD, BOS, EOS, *(f"<|t{i:02}|>" for i in range(tags))]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(special + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocab[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
