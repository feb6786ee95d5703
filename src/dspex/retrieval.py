"""
Everything about retrievers that goes beyond ``dspex.Passage`` and ``dspex.Retrieve``.

Protocols for retrievers of one's own, filters over metadata, and the indexes that dspex brings.
"""

from typing import TYPE_CHECKING

from dspex._names import lazy

if TYPE_CHECKING:
    from dspex.indexing import IndexCounts as IndexCounts
    from dspex.indexing import IndexJob as IndexJob
    from dspex.indexing import IndexReport as IndexReport
    from dspex.programs import Document as Document
    from dspex.programs import Findings as Findings
    from dspex.programs import MultiHop as MultiHop
    from dspex.programs import Quote as Quote
    from dspex.protocols.filters import And as And
    from dspex.protocols.filters import Equals as Equals
    from dspex.protocols.filters import Exists as Exists
    from dspex.protocols.filters import Filter as Filter
    from dspex.protocols.filters import FilterLike as FilterLike
    from dspex.protocols.filters import Not as Not
    from dspex.protocols.filters import OneOf as OneOf
    from dspex.protocols.filters import Or as Or
    from dspex.protocols.filters import Range as Range
    from dspex.protocols.filters import as_filter as as_filter
    from dspex.protocols.filters import filter_to_json as filter_to_json
    from dspex.protocols.filters import fits as fits
    from dspex.protocols.fusion import fused as fused
    from dspex.protocols.metadata import Metadata as Metadata
    from dspex.protocols.metadata import MetadataValue as MetadataValue
    from dspex.protocols.metadata import Scalar as Scalar
    from dspex.protocols.retrieval import Abilities as Abilities
    from dspex.protocols.retrieval import Embedder as Embedder
    from dspex.protocols.retrieval import Index as Index
    from dspex.protocols.retrieval import Retriever as Retriever
    from dspex.protocols.retrieval import Vector as Vector
    from dspex.protocols.retrieval import abilities_of as abilities_of
    from dspex.protocols.retrieval import checked_passages as checked_passages
    from dspex.protocols.retrieval import embedded_text as embedded_text
    from dspex.services.documents.documents import Documents as Documents
    from dspex.services.documents.limits import ReadLimits as ReadLimits
    from dspex.services.retrieval.bm25_index import Bm25Index as Bm25Index
    from dspex.services.retrieval.cached import Cached as Cached
    from dspex.services.retrieval.composites import Composite as Composite
    from dspex.services.retrieval.composites import Hybrid as Hybrid
    from dspex.services.retrieval.composites import Ranker as Ranker
    from dspex.services.retrieval.composites import Reranked as Reranked
    from dspex.services.retrieval.composites import RetrieverLike as RetrieverLike
    from dspex.services.retrieval.hashing import HashingEmbedder as HashingEmbedder
    from dspex.services.retrieval.http_retrievers import ColBERTv2 as ColBERTv2
    from dspex.services.retrieval.http_retrievers import HttpRetriever as HttpRetriever
    from dspex.services.retrieval.near import GraphState as GraphState
    from dspex.services.retrieval.qdrant_index import QdrantIndex as QdrantIndex
    from dspex.services.retrieval.rerank_http import HttpReranker as HttpReranker
    from dspex.services.retrieval.vector_index import VectorIndex as VectorIndex

__all__ = [
    "Abilities",
    "And",
    "Bm25Index",
    "Cached",
    "ColBERTv2",
    "Composite",
    "Document",
    "Documents",
    "Embedder",
    "Equals",
    "Exists",
    "Filter",
    "FilterLike",
    "Findings",
    "GraphState",
    "HashingEmbedder",
    "HttpReranker",
    "HttpRetriever",
    "Hybrid",
    "Index",
    "IndexCounts",
    "IndexJob",
    "IndexReport",
    "Metadata",
    "MetadataValue",
    "MultiHop",
    "Not",
    "OneOf",
    "Or",
    "QdrantIndex",
    "Quote",
    "Range",
    "Ranker",
    "ReadLimits",
    "Reranked",
    "Retriever",
    "RetrieverLike",
    "Scalar",
    "Vector",
    "VectorIndex",
    "abilities_of",
    "as_filter",
    "checked_passages",
    "embedded_text",
    "filter_to_json",
    "fits",
    "fused",
]

if not TYPE_CHECKING:  # or a checker would take every name for one of ours
    __getattr__, __dir__ = lazy(__name__, globals())
