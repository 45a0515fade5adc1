// Package filetree holds file trees in which owners, device nodes and extended attributes are only data, so nothing needs
// root: the common form between what comes in (folders, tars, OCI layers, lists) and what goes out (initial RAM file
// systems, disks).
//
// Metadata is in memory. Content is in files of the host: those of a folder or list stay where they are and are read when
// they are used; those of a tar are stored under counted names in the folder that New is given, and nowhere else. No name
// from a tar ever becomes a name on the host.
//
// What a tree can hold is what Linux can: names of 1 to 255 bytes without NUL, paths of at most 4095, no "." or "..", and
// nothing below anything but a folder. Input that says otherwise is an error that names the entry. A leading "/" or "./"
// means the tree's root, which is how tar(1) reads it. Symbolic links are never followed.
//
// Layers are those of the OCI image specification, layer.md. The list is that of the kernel's usr/gen_init_cpio.c.
//
// A Tree is not for concurrent use. After an error from a method that adds, the tree is not to be used.
package filetree
