// Package cache keeps what is fetched or built once, in a folder of entries. Each entry is created
// in a temporary place and moved to its final one by a single rename, so an entry is complete or
// absent.
//
// It is not a general cache: nothing expires, and the caller chooses names that contain the version
// or the hash of the content. Any number of processes may use one Cache at once. With a file lock
// (flock(2)) per entry, the first process builds while the others wait. The next process that
// creates an entry removes the unfinished work of processes that died.
package cache
