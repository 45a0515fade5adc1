// Package oci makes root disks of container images: from a registry, from an OCI image layout (image-spec
// image-layout.md, a folder or a tar), or from an archive of docker save; for linux/amd64.
//
// An image's layers are applied in order to a filetree.Tree, from the stream in which they come: compressed layers are not
// kept. Everything is checked before it counts: a blob against its descriptor's size and digest, and each layer as it was
// unpacked against the configuration's diff_ids. So an image is the same whatever way it came, and is named by the digest
// of its configuration (Docker's image ID), which pins both the files and the command.
//
// What the image runs (Entrypoint, Cmd, Env, User, WorkingDir) becomes a plan.Command in the file plan.ImagePath of the
// disk, for the guest's init. StopSignal, ExposedPorts, Labels, Healthcheck and OnBuild are not used: a guest is stopped by
// its power button, and its ports are those of its network. Volumes are only folders.
//
// github.com/google/go-containerregistry speaks to registries: authentication with the credentials of the usual docker
// config file, retries, plain HTTP for a loopback or private address. Names are understood as Docker does.
//
// It is not a container store: layers are not shared between disks, and nothing is pushed. Functions may be called by any
// number of goroutines and processes at once.
package oci
