// Package filetree implements file trees in which owners, device nodes and extended attributes are
// plain data, so that no operation needs root. A tree is the common form between inputs (folders,
// tars, OCI layers, lists) and outputs (initial RAM file systems, disks).
//
// Metadata is kept in memory, and content in files on the host. Files of a folder or list stay
// where they are and are read when needed. Files of a tar are stored under numbered names in the
// folder passed to New, and nowhere else: no name from a tar ever becomes a name on the host.
//
// A tree can hold what a Linux file system can hold: names of 1 to 255 bytes without NUL, paths of
// at most 4095 bytes, no "." or "..", and entries only below folders. Other input is rejected with
// an error that names the entry. A leading "/" or "./" means the tree's root, as in tar(1).
// Symbolic links are followed only by Folder and AddLayer, and only inside the tree's root.
//
// Layers follow the OCI image specification, layer.md. The list format is the input format of the
// kernel's usr/gen_init_cpio.c.
//
// A Tree is not safe for concurrent use. After an error from a method that adds entries, the tree
// must not be used.
package filetree
