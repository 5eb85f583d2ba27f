"""Ranking: which stored features are most similar to a query."""

from common.ranking.exact import ExactRanker
from common.ranking.protocol import Match, Ranker

__all__ = ["ExactRanker", "Match", "Ranker"]
