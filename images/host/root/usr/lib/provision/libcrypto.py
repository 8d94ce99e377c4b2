"""What the host's programs need of OpenSSL 3, which sshd brings along: Ed25519 (RFC 8032) and AES-256-GCM."""

import ctypes

_ED25519 = 1087  # NID_ED25519
_GET_TAG, _SET_TAG, _TAG_SIZE, _NONCE_SIZE = 16, 17, 16, 12

_pointer, _size, _bytes, _int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_int
_library = ctypes.CDLL("libcrypto.so.3")


def _function(name, result, *arguments):
    found = getattr(_library, name)
    found.restype, found.argtypes = result, arguments
    return found


_new_key = _function("EVP_PKEY_new_raw_public_key", _pointer, _int, _pointer, _bytes, _size)
_free_key = _function("EVP_PKEY_free", None, _pointer)
_new_digest = _function("EVP_MD_CTX_new", _pointer)
_free_digest = _function("EVP_MD_CTX_free", None, _pointer)
_verify_init = _function("EVP_DigestVerifyInit", _int, *[_pointer] * 5)
_verify = _function("EVP_DigestVerify", _int, _pointer, _bytes, _size, _bytes, _size)
_new_cipher = _function("EVP_CIPHER_CTX_new", _pointer)
_free_cipher = _function("EVP_CIPHER_CTX_free", None, _pointer)
_aes_256_gcm = _function("EVP_aes_256_gcm", _pointer)
_decrypt_init = _function("EVP_DecryptInit_ex", _int, _pointer, _pointer, _pointer, _bytes, _bytes)
_decrypt_update = _function("EVP_DecryptUpdate", _int, _pointer, _pointer, ctypes.POINTER(_int), _bytes, _int)
_decrypt_final = _function("EVP_DecryptFinal_ex", _int, _pointer, _pointer, ctypes.POINTER(_int))
_control = _function("EVP_CIPHER_CTX_ctrl", _int, _pointer, _int, _int, _bytes)


def is_signed(message, signature, key):
    """Whether the Ed25519 key (32 bytes) has signed the message."""
    handle, context = _new_key(_ED25519, None, key, len(key)), _new_digest()
    try:
        if not handle or not context or _verify_init(context, None, None, None, handle) != 1:
            return False
        return _verify(context, signature, len(signature), message, len(message)) == 1
    finally:
        _free_digest(context)
        _free_key(handle)


def decrypt(key, nonce, sealed, about):
    """What AES-256-GCM has sealed, its tag at the end; `about` is authenticated with it. None when anything of it was
    changed, or the key is another."""
    if len(key) != 32 or len(nonce) != _NONCE_SIZE or len(sealed) < _TAG_SIZE:
        return None
    content, tag = sealed[:-_TAG_SIZE], sealed[-_TAG_SIZE:]
    target, length, context = ctypes.create_string_buffer(len(content) + 16), _int(), _new_cipher()
    try:
        good = _decrypt_init(context, _aes_256_gcm(), None, key, nonce)
        good = good and _decrypt_update(context, None, length, about, len(about))
        good = good and _decrypt_update(context, target, length, content, len(content))
        good = good and _control(context, _SET_TAG, _TAG_SIZE, tag)
        good = good and _decrypt_final(context, ctypes.byref(target, length.value), _int())
        return target.raw[: len(content)] if good == 1 else None
    finally:
        _free_cipher(context)
