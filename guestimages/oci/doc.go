// Package oci creates root disks from container images for linux/amd64. An image comes from a
// registry, from an OCI image layout (image-spec image-layout.md, a folder or a tar), or from an
// archive of docker save.
//
// The layers of an image are unpacked in order into a filetree.Tree while they are read; compressed
// layers are not stored. Everything is verified before it is used: each blob against its
// descriptor's size and digest, and each uncompressed layer against the configuration's diff_ids.
// An image is therefore the same whatever its source. It is identified by the digest of its
// configuration (Docker's image ID), which pins both the files and the command.
//
// The image's command (Entrypoint, Cmd, Env, User, WorkingDir) becomes an agent.Command in the file
// agent.ImagePath of the disk, for the guest's init. StopSignal, ExposedPorts, Labels, Healthcheck
// and OnBuild are ignored: a guest is stopped by its power button, and its network configuration
// determines its ports. Volumes are plain folders.
//
// github.com/google/go-containerregistry implements the registry protocol: authentication with the
// credentials of the usual docker config file, retries, and plain HTTP for loopback and private
// addresses. Names are parsed as Docker does.
//
// The package is not a container store: disks do not share layers, and nothing is pushed. All
// functions are safe for concurrent use by goroutines and processes.
package oci
