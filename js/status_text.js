/** What a node said in its last run: what `auto` chose, which trained task an instruction names. Only defines things. */

const NAME = 'said'
const HOSTS_PREVIEW = '$$node-text-preview' // the same words, which newer pages take away at the end of a run
const LINE = 16
const MARGIN = 4

/** Texts by workflow and node, for this browser tab: undo, other workflows and a reload make nodes anew. */
const lastSaid = window.sessionStorage

/** Give a node a place for its words, empty until there are some. It is neither saved nor sent. */
export function addSaid(node) {
  const element = document.createElement('div')
  Object.assign(element.style, { whiteSpace: 'pre-line', overflow: 'hidden', fontSize: '12px', lineHeight: `${LINE}px` })
  element.style.color = 'var(--descrip-text, #999)'
  element.style.padding = '0 8px'
  // Never less than its margins: the page gives an element without height all it finds, clicks included.
  const height = () => 2 * MARGIN + (element.textContent ? LINE * element.textContent.split('\n').length : 0)
  const widget = node.addDOMWidget(NAME, 'ipadapter_instruct_said', element, {
    serialize: false, // not sent with the prompt
    getValue: () => element.textContent,
    setValue: (text) => {
      element.textContent = text
    },
    margin: MARGIN,
    getMinHeight: height,
    getMaxHeight: height
  })
  widget.serialize = false // not saved in the workflow
}

/** Show the words of a run that has just ended, after a title, since they stay when the node is changed. */
export function say(node, title, lines) {
  if (!lines?.length) return
  lastSaid.setItem(keyOf(node), `${title} ${lines.join('\n')}`)
  const preview = node.widgets?.find((widget) => widget.name === HOSTS_PREVIEW)
  if (preview) node.removeWidget(preview)
  sayAgain(node)
}

/** Show what was last said under this node's place in this workflow, if anything was. */
export function sayAgain(node) {
  const widget = node.widgets?.find((one) => one.name === NAME)
  const text = lastSaid.getItem(keyOf(node))
  if (!widget || text === null) return
  widget.value = text
  const [width, height] = node.computeSize()
  if (node.size[0] < width || node.size[1] < height) {
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)])
  }
  node.setDirtyCanvas?.(true)
}

function keyOf(node) {
  return `ipadapter_instruct.said:${node.graph?.id}:${node.id}`
}
