/*
 * versions.h
 *	  What to do if the loaded library and the extension's script in a database do not fit each
 *	  other.
 */
#ifndef PREBUILD_VERSIONS_H
#define PREBUILD_VERSIONS_H

/* The hint of every error that this causes. */
#define VERSIONS_HINT                                                                              \
	"The loaded library is prebuild_ext " PREBUILD_VERSION                                         \
	"; this database has objects of another version. Run ALTER EXTENSION prebuild_ext UPDATE, or " \
	"load the newer library: restart the server if it preloads the library, otherwise reconnect."

#endif /* PREBUILD_VERSIONS_H */
