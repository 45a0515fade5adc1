// Package oci creates root disks from container images for linux/amd64. An image comes from a
// registry, from an OCI image layout (a folder or a tar; image-spec image-layout.md), or from an
// archive that docker save wrote.
//
// The layers of an image are unpacked in order into a filetree.Tree while they are read; compressed
// layers are not stored. Everything is verified before it is used: each blob against the size and
// digest in its descriptor, and each uncompressed layer against the diff_ids in the configuration.
// An image therefore has the same content from every source. It is identified by the digest of its
// configuration (Docker's image ID), which determines both the files and the command.
//
// The image's command (Entrypoint, Cmd, Env, User, WorkingDir) is stored for the guest's init as an
// agent.Command, in the file agent.ImagePath on the disk. StopSignal, ExposedPorts, Labels,
// Healthcheck and OnBuild are ignored: a guest is stopped by its power button, and the VM's network
// configuration determines which ports are reachable. Volumes are plain folders.
//
// github.com/google/go-containerregistry implements the registry protocol: authentication with the
// credentials of the usual docker config file, retries, and plain HTTP for loopback and private
// addresses. Names are parsed as Docker does.
//
// The package is not a container store: disks do not share layers, and nothing is pushed. All
// functions are safe for concurrent use by goroutines and processes.
package oci
