"""How servers with OpenAI's chat completions are asked, and how their answers are read."""
