package oracle

// course is a customer's way through one lifecycle.
type course struct {
	lifecycle   Lifecycle
	stays       []stay
	transitions map[int64]transition
	rule        string // that matched last: another one is a change even if it leads to the same phase
}

type stay struct {
	phase string
	since int64
	cycle int64
}

type transition struct {
	from, to, cause, rule string
	cycle                 int64
}

func (c *course) step(now int64, phase, rule, cause string) {
	c.rule = rule
	top := c.top()
	if phase == top.phase {
		return
	}
	if len(c.stays) > 0 && top.since == now { // a second change at the same instant replaces the first
		c.stays = c.stays[:len(c.stays)-1]
		delete(c.transitions, now)
		if top = c.top(); top.phase == phase {
			return
		}
	}
	next := stay{phase, now, max(top.cycle, 1)}
	if top.phase != "" && c.lifecycle.StartsCycle(top.phase, phase) {
		next.cycle++
	}
	c.stays = append(c.stays, next)
	c.transitions[now] = transition{top.phase, phase, cause, rule, next.cycle}
}

func (c *course) top() stay {
	if n := len(c.stays); n > 0 {
		return c.stays[n-1]
	}
	return stay{}
}

// previous is the phase before the present one.
func (c *course) previous() string {
	if n := len(c.stays); n > 1 {
		return c.stays[n-2].phase
	}
	return ""
}
