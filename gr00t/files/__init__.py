"""Files and folders that are whole or absent: caches of the user, and folders that results go to."""
