"""The tokens of two models in one: each half has a vocabulary of its own."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Self

from ...params.types import Leaf, Params
from ..base import PretrainedModel
from .scaffold import EncoderDecoder

Edit = Callable[[PretrainedModel, Params], tuple[PretrainedModel, Params]]


class TwoVocabularies(EncoderDecoder):
    """A model whose `half(name)` is the encoder or the decoder, whose params are under that name.
    Tokens go in by the encoder's table, and logits come out of the decoder's head."""

    def half(self, name: str, **fields: object) -> Any:
        """Makes the encoder or the decoder; with `parent=None` as a model of its own."""
        raise TypeError(f"{type(self).__name__} defines no half")

    def edit_half(self, params: Params, name: str, edit: Edit) -> tuple[Self, Params]:
        """Returns `(model, params)` with the encoder or the decoder edited as a model of its own:
        `edit(half, its params)` returns both, as
        `lambda half, tree: half.resize_token_embeddings(tree, size, key)` does."""
        part, tree = edit(self.half(name, parent=None), params[name])
        model = self.clone(config=self.config.replace(**{name: part.config}))
        return model, {**params, name: tree}

    @property
    def prompt_vocab_size(self) -> int | None:
        return getattr(self.config.encoder.text, "vocab_size", None)

    def get_input_embeddings(self, params: Params) -> Params:
        """Returns the encoder's table of tokens: {"embedding": [V, D]}."""
        return self.half("encoder", parent=None).get_input_embeddings(params["encoder"])

    def get_output_embeddings(self, params: Params) -> Params | None:
        """Returns the layer of the decoder that makes logits, or its table if tied."""
        return self._decoder.get_output_embeddings(params["decoder"])

    def get_lm_head(self, params: Params) -> Params | None:
        """Returns all that is between the decoder and its logits."""
        return self._decoder.get_lm_head(params["decoder"])

    def get_output_layer_with_bias(self, params: Params) -> Params | None:
        """Returns the subtree with the bias of the decoder's head; None without a bias."""
        return self._decoder.get_output_layer_with_bias(params["decoder"])

    def get_prefix_bias_name(self) -> str | None:
        """Returns the path of `get_output_layer_with_bias`; None without a bias."""
        path = self._decoder.get_prefix_bias_name()
        return None if path is None else f"decoder/{path}"

    def get_bias(self, params: Params) -> Params | None:
        """Returns {"bias": [V]} of the decoder's head; None without a bias."""
        return self._decoder.get_bias(params["decoder"])

    def set_output_embeddings(
        self, params: Params, value: Mapping[str, Leaf]
    ) -> tuple[Self, Params]:
        """Replaces the kernel of the decoder's head by {"kernel": [D, V]}."""
        return self._edited(params, lambda half, tree: half.set_output_embeddings(tree, value))

    def set_bias(self, params: Params, value: Mapping[str, Leaf]) -> Params:
        """Replaces the bias of the decoder's head by {"bias": [V]}; returns params."""
        return {**params, "decoder": self._decoder.set_bias(params["decoder"], value)}

    def tie_weights(self, params: Params) -> tuple[Self, Params]:
        """Returns `(model, params)` whose decoder has its table as head."""
        return self._edited(params, lambda half, tree: half.tie_weights(tree))

    def untie_weights(self, params: Params) -> tuple[Self, Params]:
        """Returns `(model, params)` whose decoder's head has a kernel of its own."""
        return self._edited(params, lambda half, tree: half.untie_weights(tree))

    def set_input_embeddings(self, params: Params, value: Mapping[str, Leaf]) -> NoReturn:
        """Raises `TypeError`: the halves have tables of their own."""
        self._refuse("set_input_embeddings", "value")

    def resize_token_embeddings(self, params: Params, *args: object, **options: object) -> NoReturn:
        """Raises `TypeError`, as the reference refuses it: the halves have vocabularies of their
        own."""
        self._refuse("resize_token_embeddings", "size, key")

    @property
    def _decoder(self) -> PretrainedModel:
        return self.half("decoder", parent=None)

    def _edited(self, params: Params, edit: Edit) -> tuple[Self, Params]:
        return self.edit_half(params, "decoder", edit)

    def _refuse(self, name: str, arguments: str) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} has two vocabularies: model.edit_half(params, 'decoder', "
            f"lambda half, tree: half.{name}(tree, {arguments})), or of the 'encoder'"
        )
