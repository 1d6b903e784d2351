"""The workflow language: contract, parsing, validation, policy prompts, interpreter, library.

Where to look: `contract` states the ten operators; `parse` and `validate` judge what a policy
wrote (`repair`, `parse_files`, `syntax`, `anatomy`, `grammar`, `scopes`, `attributes`, `uses`,
`calls` and `returns` are among their parts); `policy_prompt` asks for it; `library` holds the fixed
workflows; `interpreter` runs any of them (`adapter`, `prelude`, `binding`, `drive`, `faults` and
`limits` are its parts).
"""
