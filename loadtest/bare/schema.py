"""The tables and the statements of a turn: the minimum that stores the messages."""

from typing import Final

TABLES: Final = """
    CREATE SCHEMA bare;
    CREATE TABLE bare.runs (id uuid PRIMARY KEY, thread_id uuid NOT NULL, user_id uuid NOT NULL, answer text);
    CREATE TABLE bare.messages (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        thread_id uuid NOT NULL,
        role text NOT NULL,
        content text NOT NULL
    );
    CREATE INDEX ON bare.messages (thread_id, id);
    CREATE TABLE bare.memories (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL,
        text text NOT NULL,
        embedding vector(384) NOT NULL
    );
    CREATE INDEX ON bare.memories (user_id);
"""
BEGIN_TURN: Final = """
    WITH run AS (INSERT INTO bare.runs (id, thread_id, user_id) VALUES ($1, $2, $3))
    INSERT INTO bare.messages (thread_id, role, content) VALUES ($2, 'user', $4)
"""
# Includes the user's new message.
HISTORY: Final = "SELECT role, content FROM bare.messages WHERE thread_id = $1 ORDER BY id DESC LIMIT 20"
END_TURN: Final = """
    WITH run AS (UPDATE bare.runs SET answer = $3 WHERE id = $1)
    INSERT INTO bare.messages (thread_id, role, content) VALUES ($2, 'assistant', $3)
"""
RECALL: Final = """
    SELECT id, text, 1 - (embedding <=> (SELECT $2::text::vector)) AS similarity
    FROM bare.memories
    WHERE user_id = $1
    ORDER BY embedding <=> (SELECT $2::text::vector)
    LIMIT 5
"""
