package agent

// PlanPath is the path of the Plan in the initial RAM file system.
const PlanPath = "/init.json"

// ChannelWord is a kernel parameter: minivmm.channel=NAME names the virtio-serial port on which the
// command arrives. NAME overrides the plan's Channel.
const ChannelWord = "minivmm.channel"

// ImagePath is a file on every disk made from a container image. It contains the image's command: a
// Command as JSON, mode 0644, owner 0. If its Argv is empty, the image has no command.
const ImagePath = "/.minivmm/image.json"

// Plan defines what init does, in the order of the fields. Before that, init always mounts /proc,
// /sys and /dev.
type Plan struct {
	Modules  []string `json:"modules,omitempty"`   // module files in the initial RAM file system, in load order
	OnDemand []Module `json:"on_demand,omitempty"` // modules loaded only if a device needs them or the kernel requests them
	Channel  string   `json:"channel,omitempty"`   // name of the virtio-serial port on which the Command arrives
	HoldVM   bool     `json:"hold_vm,omitempty"`   // keep a KVM VM open while the Command from the Channel runs
	Root     *Root    `json:"root,omitempty"`      // the file tree that becomes the root; nil: the disk that root= names, or else the initial RAM file system
	Mounts   []Mount  `json:"mounts,omitempty"`    // mounted in the root's file tree
	Writes   []Write  `json:"writes,omitempty"`    // written after the mounts
	Hostname string   `json:"hostname,omitempty"`  // empty: the kernel's own host name
	Command  *Command `json:"command,omitempty"`   // run on the console if there is no Channel
}

// Module is a kernel module with its dependencies.
type Module struct {
	Name    string   `json:"name"`
	Aliases []string `json:"aliases"` // patterns as in modules.alias: for devices, and for names that the kernel passes to modprobe(8)
	Files   []string `json:"files"`   // in the initial RAM file system, in load order
}

// Root is a read-only 9p file tree with a writable layer in memory above it (overlayfs over tmpfs).
type Root struct {
	Tag     string `json:"tag"`     // virtio-9p mount tag
	Release string `json:"release"` // /lib/modules/Release becomes a link to Modules
	Modules string `json:"modules"` // a folder in the tree
}

// Mount holds the arguments of one mount(2). The target is created if it is missing. If Optional is
// set, the mount may fail, for example because the kernel lacks the file system.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	Type     string `json:"type"`
	Data     string `json:"data,omitempty"`
	Optional bool   `json:"optional,omitempty"`
}

// Write describes a text to write to an existing file, such as a kernel setting in /proc/sys.
type Write struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// Command is a program to run. If Argv[0] contains no slash, it is looked up in the PATH that Env
// sets.
type Command struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"` // KEY=value
	Dir  string   `json:"dir,omitempty"` // empty: /
	// User is the user that the command runs as, written as in a container image's configuration: a
	// name or uid, optionally followed by ":" and a group's name or gid. Names are looked up in
	// /etc/passwd and /etc/group of the root file system. If Env lacks HOME, it is set to the
	// user's home folder. If User is empty, the command runs as the same user as init.
	User     string    `json:"user,omitempty"`
	Shares   []Share   `json:"shares,omitempty"`
	Terminal *Terminal `json:"terminal,omitempty"` // nil: pipes
}

// Share is a writable 9p folder, mounted before the command runs.
type Share struct {
	Tag  string `json:"tag"`
	Path string `json:"path"`
}

// Terminal asks for a pseudo terminal of this size, in characters.
type Terminal struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// Exit describes how a command ended. If Error is not empty, the command never ran, and Error is
// the reason.
type Exit struct {
	Status int    `json:"status"`           // exit status, 0 if Signal is set
	Signal int    `json:"signal,omitempty"` // number of the signal that ended the command
	Error  string `json:"error,omitempty"`
}

// Code returns the exit status that a shell would report for e: if a signal ended the command, 128
// plus the number of the signal.
func (e Exit) Code() int {
	if e.Signal != 0 {
		return 128 + e.Signal
	}
	return e.Status
}
