package agent

// PlanPath is the path of the Plan in the initial RAM file system.
const PlanPath = "/init.json"

// ChannelWord is the word of the kernel command line, WORD=NAME, that names the virtio-serial port
// on which the command arrives. It overrides the plan's Channel.
const ChannelWord = "minivmm.channel"

// ImagePath is the file in which a disk made from a container image stores the image's command: a
// Command as JSON, mode 0644, owner 0. If Argv is empty, the image has no command.
const ImagePath = "/.minivmm/image.json"

// Plan tells init what to do, in the order of the fields. Init always mounts /proc, /sys and /dev
// first.
type Plan struct {
	Modules  []string `json:"modules,omitempty"`   // module files in the initial RAM file system, in load order
	OnDemand []Module `json:"on_demand,omitempty"` // loaded for a device that is present, or at the kernel's request
	Channel  string   `json:"channel,omitempty"`   // name of the virtio-serial port on which the Command arrives
	HoldVM   bool     `json:"hold_vm,omitempty"`   // keep a KVM VM open while the Command from the Channel runs
	Root     *Root    `json:"root,omitempty"`      // the file tree to move to; nil: the disk that root= names, or else the initial RAM file system
	Mounts   []Mount  `json:"mounts,omitempty"`    // mounted in the tree of Root
	Writes   []Write  `json:"writes,omitempty"`    // written after the mounts
	Hostname string   `json:"hostname,omitempty"`  // empty: the kernel's own
	Command  *Command `json:"command,omitempty"`   // run on the console if there is no Channel
}

// Module is a kernel module with its dependencies.
type Module struct {
	Name    string   `json:"name"`
	Aliases []string `json:"aliases"` // patterns as in modules.alias: devices, and names that the kernel passes to modprobe(8)
	Files   []string `json:"files"`   // in the initial RAM file system, in load order
}

// Root is a read-only 9p file tree with a writable layer in memory above it (overlayfs over tmpfs).
type Root struct {
	Tag     string `json:"tag"`     // virtio-9p mount tag
	Release string `json:"release"` // /lib/modules/Release becomes a link to Modules
	Modules string `json:"modules"` // a folder of the tree
}

// Mount is one mount(2). The target is created if it is missing. An Optional mount may fail, for
// example because the kernel lacks the file system.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	Type     string `json:"type"`
	Data     string `json:"data,omitempty"`
	Optional bool   `json:"optional,omitempty"`
}

// Write writes text to an existing file, such as a kernel setting.
type Write struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// Command is a program to run. Argv[0] without a slash is looked up in the PATH of Env.
type Command struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"` // KEY=value
	Dir  string   `json:"dir,omitempty"` // empty: /
	// User runs the command, in the form of a container image's configuration: a name or uid,
	// optionally followed by ":" and a group's name or gid, looked up in /etc/passwd and
	// /etc/group of the root file system. HOME is set to the user's home if Env lacks it.
	// Empty: the same user as init.
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

// Exit describes how a command ended. Error, if not empty, says why the command never ran.
type Exit struct {
	Status int    `json:"status"`           // exit status, 0 if Signal is set
	Signal int    `json:"signal,omitempty"` // number of the signal that ended it
	Error  string `json:"error,omitempty"`
}

// Code returns the exit status that a shell reports for e: 128 plus the number of a signal.
func (e Exit) Code() int {
	if e.Signal != 0 {
		return 128 + e.Signal
	}
	return e.Status
}
