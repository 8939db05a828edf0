/* SPDX-License-Identifier: PostgreSQL */
#include "tidemark.h"

const char *tidemark_strerror(enum tidemark_status status)
{
	switch (status) {
	case TIDEMARK_OK:
		return "no error";
	case TIDEMARK_MALFORMED:
		return "this is not a token";
	case TIDEMARK_FORGED:
		return "the token's key is not known, or the token was tampered with";
	case TIDEMARK_BOUND:
		return "the token is bound to another session name, or was tampered with";
	case TIDEMARK_EXPIRED:
		return "the token has expired";
	case TIDEMARK_FUTURE:
		return "the token was issued in the future";
	case TIDEMARK_PRIMARY:
		return "the token says: read from the primary";
	case TIDEMARK_TOO_SMALL:
		return "the output buffer is too small";
	case TIDEMARK_BAD_KEY:
		return "not a key of 16 to 64 bytes, its id is taken, or there are eight keys already";
	case TIDEMARK_NO_KEY:
		return "there is no key";
	case TIDEMARK_UNVERIFIED:
		return "a token that was not verified cannot be signed";
	case TIDEMARK_RANGE:
		return "a number is out of range";
	case TIDEMARK_NO_CONNECTION:
		return "there is no connection to the server";
	case TIDEMARK_BUSY:
		return "a command is under way on the connection, or its results have not all been read";
	case TIDEMARK_IN_TRANSACTION:
		return "the connection is inside a transaction";
	case TIDEMARK_IN_PIPELINE:
		return "the connection is in pipeline mode";
	case TIDEMARK_NOT_A_ROUTER:
		return "the server is not Tidemark";
	case TIDEMARK_REFUSED:
		return "the server answered with an error";
	}
	return "unknown status";
}
