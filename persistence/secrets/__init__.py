"""Secrets: encrypted values of projects, the keys that encrypt them, and their rotation.

Modules:
    key_file: The file that holds the keys.
    key_source: The keys of one process, from its setting and from the key file.
    keyring: Encryption and decryption.
    resolver: Decrypts values for one node call.
    rotation: Checks all secrets, and encrypts them under the current key.
    store: Secrets as rows.
"""
