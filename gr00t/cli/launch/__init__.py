"""What the scripts at the top of the repository do, once their packages are there.

Each script asks twice. First `--groups` reads the request and answers with what has to be installed for it,
by whatever Python there is and in milliseconds; then the script installs that and hands over. So a wrong
request is refused before minutes of set-up, and no suite, checkpoint or setting stands in a script.
"""
