/**
 * What nodes said in their last run, on the nodes: what `auto` chose, which trained task an instruction names.
 *
 * The page keeps the words with a node's other outputs, and has a widget for them while a node runs. It takes that away
 * at the end of a run (from 1.58 on), and does not make it again on nodes that undo or another workflow made anew.
 */
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import { isOurs, widgetOf } from './graph.js'
import { later } from './there.js'

const WIDGET = '$$node-text-preview' // the page's own
const LINE = 16
const AROUND = 36 // the widget's height without a line
const EVENTS = ['executed', 'execution_success', 'execution_error', 'execution_interrupted']

let isOld // whether this is the page of 1.32, which loses sight of these widgets

/** Show the words after whatever may have taken them away. title: says that they are of a run, since they stay. */
export function keepWords(title) {
  const show = () => later(() => showWords(title))
  for (const event of EVENTS) api.addEventListener(event, show)
  app.canvas.canvas.addEventListener('litegraph:set-graph', () => later(() => showWords(title, isOld)))
  return show
}

/** On the nodes of the graph that is open; the page knows no others. anew: whether those that are there are not seen. */
function showWords(title, anew) {
  for (const node of app.canvas.graph?.nodes.filter(isOurs) ?? []) {
    const lines = app.nodeOutputs[keyOf(node)]?.text
    if (!lines?.length) continue
    const text = `${title} ${lines.join('  \n')}` // Vue nodes take it for Markdown
    const widget = widgetOf(node, WIDGET)
    if (widget && anew) node.removeWidget(widget)
    if (widget?.value !== text || anew) put(node, text, AROUND + LINE * lines.length)
  }
}

function put(node, text, height) {
  api.dispatchCustomEvent('progress_text', { nodeId: String(node.id), text })
  const widget = widgetOf(node, WIDGET)
  if (!widget) return
  widget.options.getMinHeight = () => height
  const needed = node.computeSize()[1]
  if (node.size[1] < needed) node.setSize([node.size[0], needed])
  isOld ??= widget.serialize !== false
  if (!isOld) return
  widget.serialize = false // or it is saved
  node.graph.onNodeAdded?.(node) // or Vue nodes overlook it, once a widget of the node was changed
}

/** The name under which the page keeps a node's outputs. */
function keyOf(node) {
  return node.graph === app.rootGraph ? String(node.id) : `${node.graph.id}:${node.id}`
}
