"""The tests' questions to ComfyUI's page in its own language. All work in the front ends 1.32, 1.49 and 1.58."""

from __future__ import annotations

SEEN_BANNERS = """
localStorage.setItem('vueNodesBannerDismissed', 'true')
localStorage.setItem('comfy.vueNodesMigration.dismissed', 'true')
"""
READY = """() => window.app?.canvas?.graph && app.extensionManager && !app.extensionManager.spinner
    && document.querySelector('[data-testid="queue-button"]') && LiteGraph.registered_node_types.KSampler"""
COUNT_ENDS = """() => {
    window.endedRuns = []
    for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
        app.api.addEventListener(kind, (event) => window.endedRuns.push([kind, event.detail]))
}"""
# Or the page's own use of something deprecated hides the pack's.
WARN_EACH_TIME = "() => { LiteGraph.alwaysRepeatWarnings = true }"
NEXT_TURN = "() => new Promise((done) => setTimeout(done))"
NEW_WORKFLOW = "() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')"
IS_EMPTY = "() => app.graph.nodes.length === 0"
CLOSE_OTHERS = """async () => {
    const { workflow } = app.extensionManager
    for (const open of [...workflow.openWorkflows]) if (!workflow.isActive(open)) await workflow.closeWorkflow(open)
}"""
DROP = """([name, text, type]) => {
    const dataTransfer = new DataTransfer()
    dataTransfer.items.add(new File([text], name, { type }))
    const details = { bubbles: true, cancelable: true, dataTransfer, clientX: 600, clientY: 400 }
    for (const kind of ['dragenter', 'dragover', 'drop'])
        document.querySelector('#graph-canvas').dispatchEvent(new DragEvent(kind, details))
}"""
LEAVE_APP = """async () => {
    if (document.querySelector('[data-testid="linear-widgets"]'))
        await app.extensionManager.command.execute('Comfy.ToggleLinear')
}"""
ADD_NODE = """(type) => {
    const node = LiteGraph.createNode(type)
    node.pos = [200, 200]
    app.graph.add(node)
}"""
HOLDS = "(ids) => app.graph.nodes.map((node) => String(node.id)).sort().join() === ids"
NODES = """() => app.canvas.graph.nodes.map((node) => ({
    id: node.id, type: node.type, title: node.title, pos: [...node.pos], size: [...node.size],
    widgets: Object.fromEntries((node.widgets ?? []).map((widget) => [widget.name, widget.value])),
}))"""
LINKS = """() => [...(app.graph.links.values?.() ?? Object.values(app.graph.links))].map((link) =>
    [link.id, link.origin_id, link.origin_slot, link.target_id, link.target_slot].map(Number))"""
PROMPT = "async () => (await app.graphToPrompt()).output"
UNKNOWN = """() => app.graph.nodes
    .filter((node) => node.has_errors || !LiteGraph.registered_node_types[node.type])
    .map((node) => node.type)"""
# Without a selection, which would be what is shown.
SHOW_ALL = """() => {
    app.canvas.deselectAll()
    return app.extensionManager.command.execute('Comfy.Canvas.FitView')
}"""

# Small and short. Masks keep their proportions.
SMALL = """(side) => {
    for (const node of app.graph.nodes) {
        const value = (name) => node.widgets?.find((widget) => widget.name === name)?.value
        const set = (name, to) => {
            const widget = node.widgets.find((one) => one.name === name)
            widget.value = to
            widget.callback?.(to)
        }
        if (value('steps') !== undefined) set('steps', 1)
        const scale = ['SolidMask', 'MaskComposite'].includes(node.type) ? 512 : value('width') ?? side
        for (const name of ['width', 'height', 'x', 'y'])
            if (typeof value(name) === 'number') set(name, Math.round((value(name) * side) / scale))
    }
}"""

# Places in the window: the node has been moved to where nothing covers it.
TITLE_AT = """(id) => {
    const node = app.canvas.graph.getNodeById(id)
    const { ds, canvas } = app.canvas
    ds.scale = 1
    ds.offset = [400 - node.pos[0], 300 - node.pos[1]]
    app.canvas.draw(true, true)
    const box = canvas.getBoundingClientRect()
    return [box.left + 480, box.top + 285]
}"""
# A node has to be seen before the page knows where its widgets are.
WIDGET_AT = """([id, name]) => {
    const node = app.canvas.graph.getNodeById(id)
    const widget = node.widgets.find((one) => one.name === name)
    const { ds, canvas } = app.canvas
    const show = (x, y) => {
        ds.scale = 1
        ds.offset = [600 - x, 400 - y]
        app.canvas.draw(true, true)
    }
    const x = node.pos[0] + node.size[0] / 2
    show(x, node.pos[1])
    show(x, node.pos[1] + (widget.last_y ?? widget.y) + 10)
    const box = canvas.getBoundingClientRect()
    return [box.left + 600, box.top + 400]
}"""

WIDGET_KIND = """([id, name]) => {
    const widget = app.canvas.graph.getNodeById(id).widgets.find((one) => one.name === name)
    return widget.element ? 'element' : widget.type
}"""
WIDGET_ELEMENT = """([id, name]) =>
    app.canvas.graph.getNodeById(id).widgets.find((one) => one.name === name).element"""
# Words of a run are an element above the canvas, which the page may have left out.
DRAWN_TEXT = """(id) => {
    const tidy = (text) => text.replaceAll(/\\s+/g, ' ').trim()
    const above = [...document.querySelectorAll('.dom-widget')].filter((one) => one.checkVisibility())
    const isSeen = (widget) => above.some((one) => tidy(one.innerText) === tidy(widget.value))
    return app.canvas.graph.getNodeById(id).widgets
        .filter((widget) => widget.type !== 'progressText' || isSeen(widget))
        .map((widget) => `${widget.label ?? widget.name}: ${widget.value}`).join('\\n')
}"""
DRAWN_PICTURE = """(id) => {
    const picture = app.canvas.graph.getNodeById(id).imgs?.[0]
    return picture ? [picture.naturalWidth, picture.naturalHeight] : null
}"""

# The page beyond the window, and what Vue nodes hold beyond their boxes: fields, texts, pictures. What scrolls or is
# cut with dots on purpose counts as its own box.
STICKS_OUT = """() => {
    const found = []
    const root = document.documentElement
    if (root.scrollWidth > innerWidth || root.scrollHeight > innerHeight)
        found.push(`the page is ${root.scrollWidth} x ${root.scrollHeight}`)
    for (const node of document.querySelectorAll('[data-node-id]')) {
        const box = node.getBoundingClientRect()
        for (const part of node.querySelectorAll('input, textarea, [role="combobox"], img, span, p')) {
            const own = part.getBoundingClientRect()
            const shown = own.width && own.height && part.checkVisibility({ visibilityProperty: true })
            if (!shown || part.closest('[class*="overflow-y"], .comfy-markdown')) continue
            const beyond = Math.max(own.right - box.right, box.left - own.left, own.bottom - box.bottom)
            const name = part.ariaLabel || part.textContent.trim().slice(0, 40) || part.tagName
            if (beyond > 4) found.push(`node ${node.dataset.nodeId}: ${name} sticks out by ${Math.round(beyond)}`)
        }
    }
    return found
}"""
# Elements above the canvas that are larger than their nodes; seen or not, they take clicks.
COVERS = """() => app.graph.nodes.flatMap((node) => {
    const { ds, canvas } = app.canvas
    const bottom = canvas.getBoundingClientRect().top + (node.pos[1] + node.size[1] + ds.offset[1]) * ds.scale
    return (node.widgets ?? [])
        .filter((widget) => widget.element?.checkVisibility())
        .map((widget) => [widget.name, widget.element.closest('.dom-widget').getBoundingClientRect().bottom - bottom])
        .filter(([, beyond]) => beyond > 4)
        .map(([name, beyond]) => `${node.type} ${node.id}: ${name} goes ${Math.round(beyond)} below the node`)
})"""
# Nodes on the canvas that are too small for their widgets.
TOO_SMALL = """() => app.graph.nodes
    .filter((node) => !node.flags.collapsed && node.widgets?.length)
    .map((node) => [node, [...node.size].map(Math.round), [...node.computeSize()].map(Math.round)])
    .filter(([, size, needed]) => size[0] < needed[0] || size[1] < needed[1])
    .map(([node, size, needed]) => `${node.type} ${node.id} is ${size}, its widgets need ${needed}`)"""
