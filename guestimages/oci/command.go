package oci

import (
	"bytes"
	"encoding/json"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/filetree"
)

// defaultPath is the PATH for an image that does not set PATH. Docker uses the same default.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Command returns the image's command. Argv is empty if the image has no command. User is never
// empty, so that the guest sets HOME to the user's home folder.
func (im *Image) Command() agent.Command {
	c := im.Config.Config
	command := agent.Command{
		Argv: slices.Concat(c.Entrypoint, c.Cmd),
		Env:  slices.DeleteFunc(slices.Clone(c.Env), func(kv string) bool { return strings.IndexByte(kv, '=') < 1 }),
		Dir:  path.Join("/", c.WorkingDir),
		User: c.User,
	}
	if !slices.ContainsFunc(command.Env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) {
		command.Env = append([]string{defaultPath}, command.Env...)
	}
	if command.User == "" {
		command.User = "0"
	}
	return command
}

// finish adds to the unpacked image what a container runtime would add: mount points, volumes and
// the working folder. It also adds the file with the image's command.
func (im *Image) finish(tree *filetree.Tree) error {
	command := im.Command()
	folders := []string{"dev", "proc", "sys", command.Dir}
	for volume := range im.Config.Config.Volumes {
		folders = append(folders, volume)
	}
	for _, dir := range folders {
		if err := tree.Folder(path.Clean("/" + dir)); err != nil {
			return invalid(err)
		}
	}
	b, err := json.MarshalIndent(command, "", "\t")
	if err != nil {
		return err
	}
	file := strings.TrimPrefix(agent.ImagePath, "/")
	created := im.Config.Created.Time
	// Both replace any entry of the image with the same path.
	if err := tree.Put(filetree.Node{Path: path.Dir(file), Mode: unix.S_IFDIR | 0o755, ModTime: created}, nil); err != nil {
		return err
	}
	return tree.Put(filetree.Node{Path: file, Mode: unix.S_IFREG | 0o644, ModTime: created}, bytes.NewReader(append(b, '\n')))
}
