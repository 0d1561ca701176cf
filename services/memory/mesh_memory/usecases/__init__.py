"""The use cases of memory: queue a turn, store its facts, find them for a later message, change and forget them."""

from mesh_memory.usecases.edit import EditMemories
from mesh_memory.usecases.fair_embedding import FairEmbedder
from mesh_memory.usecases.find import FindMemories
from mesh_memory.usecases.forget import ForgetMemories
from mesh_memory.usecases.keep_turn import KeepTurn
from mesh_memory.usecases.limits import Limits
from mesh_memory.usecases.remember import Remember

__all__ = ["EditMemories", "FairEmbedder", "FindMemories", "ForgetMemories", "KeepTurn", "Limits", "Remember"]
