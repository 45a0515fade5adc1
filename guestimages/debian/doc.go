// Package debian fetches and unpacks Debian packages without installing them, and fetches source packages, through the
// machine's own apt-get, apt-cache, dpkg-deb and dpkg-source.
//
// It reads the machine's package sources but never changes them: a private copy lives in the cache with package lists of its
// own (apt.conf(5), Dir::Etc and Dir::State). So no root is needed to fetch, and signatures are checked with the machine's
// keys as always. Only Install changes the machine. Source packages come from a Suite: a named release of Debian.
//
// The version that belongs to a package name is recorded at the first query and looked up again
// only after Forget. So a start from a filled cache does not run apt. An Archive is safe for
// concurrent use by any number of goroutines and processes.
package debian
