"""Training data and rankings in the formats of other libraries."""

from negfast.formats.beir import read_beir, write_beir
from negfast.formats.data import RetrievalData
from negfast.formats.flag_embedding import read_flag_embedding, write_flag_embedding
from negfast.formats.hugging_face import read_hugging_face, write_hugging_face
from negfast.formats.id_lists import IdLists
from negfast.formats.nemo import read_nemo, write_nemo
from negfast.formats.tevatron import (
    read_tevatron,
    read_tevatron_passages,
    write_tevatron,
    write_tevatron_passages,
)
from negfast.formats.trec import read_trec_qrels, read_trec_run, write_trec_qrels, write_trec_run

__all__ = [
    "IdLists",
    "RetrievalData",
    "read_beir",
    "read_flag_embedding",
    "read_hugging_face",
    "read_nemo",
    "read_tevatron",
    "read_tevatron_passages",
    "read_trec_qrels",
    "read_trec_run",
    "write_beir",
    "write_flag_embedding",
    "write_hugging_face",
    "write_nemo",
    "write_tevatron",
    "write_tevatron_passages",
    "write_trec_qrels",
    "write_trec_run",
]
