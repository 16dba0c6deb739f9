"""Writes a tiny llama model of random weights, and its byte-level BPE tokenizer: a real model's files, made offline.

usage: make_tiny_gguf.py DIR        writes DIR/tiny.gguf and DIR/tokenizer.json; needs gguf, tokenizers, numpy

Its text is noise; what matters is that a real server loads it, tokenizes with it and streams from it, within a second.
The same files come out each time.
"""

import json
import random
import string
import sys
from pathlib import Path

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
EMBED, LAYERS, HEADS, FEED_FORWARD, CONTEXT, VOCAB = 64, 2, 4, 128, 4096, 1024


def train_tokenizer(path: Path) -> Tokenizer:
    """Train on made-up words, so that nothing has to be downloaded; save to ``path``."""
    rng = random.Random(0)
    words = ["".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 8))) for _ in range(2000)]
    corpus = [" ".join(rng.choices(words, k=20)) + ". The quick brown fox, 123!" for _ in range(2000)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.save(str(path))
    return tokenizer


def describe(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> int:
    """Write the model's shape and vocabulary; return the vocabulary's size."""
    vocabulary = {number: token for token, number in tokenizer.get_vocab().items()}
    tokens = [vocabulary[number] for number in range(len(vocabulary))]
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_name("tiny-random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBED)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(EMBED // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    control, normal = int(gguf.TokenType.CONTROL), int(gguf.TokenType.NORMAL)
    writer.add_token_types([control if token in SPECIAL else normal for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(value=False)
    writer.add_chat_template(TEMPLATE)
    return len(tokens)


def add_weights(writer: gguf.GGUFWriter, vocabulary: int) -> None:
    """Write every tensor: normal of deviation 0.05, the norms ones."""
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int, ones: bool = False) -> None:
        data = np.ones(shape) if ones else rng.normal(0, 0.05, shape)
        writer.add_tensor(name, data.astype(np.float32))

    weights("token_embd.weight", vocabulary, EMBED)
    weights("output_norm.weight", EMBED, ones=True)
    weights("output.weight", vocabulary, EMBED)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        weights(block + "attn_norm.weight", EMBED, ones=True)
        weights(block + "ffn_norm.weight", EMBED, ones=True)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights(f"{block}{part}.weight", EMBED, EMBED)
        weights(block + "ffn_gate.weight", FEED_FORWARD, EMBED)
        weights(block + "ffn_up.weight", FEED_FORWARD, EMBED)
        weights(block + "ffn_down.weight", EMBED, FEED_FORWARD)


def main(folder: Path) -> None:
    """Write both files into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "tiny.gguf"
    writer = gguf.GGUFWriter(str(model), "llama")
    add_weights(writer, describe(writer, train_tokenizer(folder / "tokenizer.json")))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{model}: {model.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
