"""How a cluster comes to be, one file a way to run one: `README.md` here says which and how. Two modules serve them: `head` (what
launch scripts ask of a Ray head) and `dashboard` (draws `grafana.json` from the table of figures)."""
